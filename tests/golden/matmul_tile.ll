define internal i32 @pk_golden_0_body(ptr %env, ptr %symbols, ptr %scratch, i64 %begin, i64 %end, ptr %buf0, ptr %buf1, ptr %buf2) noinline #0 {
entry:
  br label %range1
range1:
  %v1 = phi i64 [ %begin, %entry ], [ %v100, %done5 ]
  %v2 = icmp slt i64 %v1, %end
  br i1 %v2, label %part2, label %end3
part2:
  %v3 = sub i64 %end, %v1
  %v4 = add i64 %v1, %v3
  %v5 = call i64 @llvm.smin.i64(i64 3, i64 %v4)
  %v6 = call i64 @llvm.smin.i64(i64 %v5, i64 3)
  %v7 = icmp slt i64 %v1, %v6
  br i1 %v7, label %loop4, label %done5
loop4:
  %v8 = phi i64 [ %v1, %part2 ], [ %v97, %done7 ]
  br label %loop6
loop6:
  %v9 = phi i64 [ 0, %loop4 ], [ %v64, %loop6 ]
  %v10 = phi <8 x float> [ splat (float 0x0000000000000000), %loop4 ], [ %v48, %loop6 ]
  %v11 = phi <8 x float> [ splat (float 0x0000000000000000), %loop4 ], [ %v54, %loop6 ]
  %v12 = phi <8 x float> [ splat (float 0x0000000000000000), %loop4 ], [ %v60, %loop6 ]
  %v13 = phi <8 x float> [ splat (float 0x0000000000000000), %loop4 ], [ %v63, %loop6 ]
  %v14 = mul i64 %v8, 10
  %v15 = mul i64 %v9, 2
  %v16 = add i64 %v14, %v15
  %v17 = getelementptr float, ptr %buf0, i64 %v16
  %v18 = load float, ptr %v17, align 4
  %v19 = mul i64 %v9, 32
  %v20 = getelementptr float, ptr %buf1, i64 %v19
  %v21 = load <8 x float>, ptr %v20, align 4
  %v22 = insertelement <8 x float> poison, float %v18, i64 0
  %v23 = shufflevector <8 x float> %v22, <8 x float> poison, <8 x i32> zeroinitializer
  %v24 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v23, <8 x float> %v21, <8 x float> %v10)
  %v25 = getelementptr float, ptr %buf1, i64 %v19
  %v26 = getelementptr float, ptr %v25, i64 8
  %v27 = load <8 x float>, ptr %v26, align 4
  %v28 = insertelement <8 x float> poison, float %v18, i64 0
  %v29 = shufflevector <8 x float> %v28, <8 x float> poison, <8 x i32> zeroinitializer
  %v30 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v29, <8 x float> %v27, <8 x float> %v11)
  %v31 = getelementptr float, ptr %buf0, i64 %v16
  %v32 = getelementptr float, ptr %v31, i64 5
  %v33 = load float, ptr %v32, align 4
  %v34 = insertelement <8 x float> poison, float %v33, i64 0
  %v35 = shufflevector <8 x float> %v34, <8 x float> poison, <8 x i32> zeroinitializer
  %v36 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v35, <8 x float> %v21, <8 x float> %v12)
  %v37 = insertelement <8 x float> poison, float %v33, i64 0
  %v38 = shufflevector <8 x float> %v37, <8 x float> poison, <8 x i32> zeroinitializer
  %v39 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v38, <8 x float> %v27, <8 x float> %v13)
  %v40 = getelementptr float, ptr %buf0, i64 %v16
  %v41 = getelementptr float, ptr %v40, i64 1
  %v42 = load float, ptr %v41, align 4
  %v43 = getelementptr float, ptr %buf1, i64 %v19
  %v44 = getelementptr float, ptr %v43, i64 16
  %v45 = load <8 x float>, ptr %v44, align 4
  %v46 = insertelement <8 x float> poison, float %v42, i64 0
  %v47 = shufflevector <8 x float> %v46, <8 x float> poison, <8 x i32> zeroinitializer
  %v48 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v47, <8 x float> %v45, <8 x float> %v24)
  %v49 = getelementptr float, ptr %buf1, i64 %v19
  %v50 = getelementptr float, ptr %v49, i64 24
  %v51 = load <8 x float>, ptr %v50, align 4
  %v52 = insertelement <8 x float> poison, float %v42, i64 0
  %v53 = shufflevector <8 x float> %v52, <8 x float> poison, <8 x i32> zeroinitializer
  %v54 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v53, <8 x float> %v51, <8 x float> %v30)
  %v55 = getelementptr float, ptr %buf0, i64 %v16
  %v56 = getelementptr float, ptr %v55, i64 6
  %v57 = load float, ptr %v56, align 4
  %v58 = insertelement <8 x float> poison, float %v57, i64 0
  %v59 = shufflevector <8 x float> %v58, <8 x float> poison, <8 x i32> zeroinitializer
  %v60 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v59, <8 x float> %v45, <8 x float> %v36)
  %v61 = insertelement <8 x float> poison, float %v57, i64 0
  %v62 = shufflevector <8 x float> %v61, <8 x float> poison, <8 x i32> zeroinitializer
  %v63 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v62, <8 x float> %v51, <8 x float> %v39)
  %v64 = add nuw nsw i64 %v9, 1
  %v65 = icmp slt i64 %v64, 2
  br i1 %v65, label %loop6, label %done7, !llvm.loop !0
done7:
  %v66 = mul i64 %v8, 10
  %v67 = getelementptr float, ptr %buf0, i64 %v66
  %v68 = getelementptr float, ptr %v67, i64 4
  %v69 = load float, ptr %v68, align 4
  %v70 = getelementptr float, ptr %buf1, i64 64
  %v71 = load <8 x float>, ptr %v70, align 4
  %v72 = insertelement <8 x float> poison, float %v69, i64 0
  %v73 = shufflevector <8 x float> %v72, <8 x float> poison, <8 x i32> zeroinitializer
  %v74 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v73, <8 x float> %v71, <8 x float> %v48)
  %v75 = getelementptr float, ptr %buf1, i64 72
  %v76 = load <8 x float>, ptr %v75, align 4
  %v77 = insertelement <8 x float> poison, float %v69, i64 0
  %v78 = shufflevector <8 x float> %v77, <8 x float> poison, <8 x i32> zeroinitializer
  %v79 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v78, <8 x float> %v76, <8 x float> %v54)
  %v80 = getelementptr float, ptr %buf0, i64 %v66
  %v81 = getelementptr float, ptr %v80, i64 9
  %v82 = load float, ptr %v81, align 4
  %v83 = insertelement <8 x float> poison, float %v82, i64 0
  %v84 = shufflevector <8 x float> %v83, <8 x float> poison, <8 x i32> zeroinitializer
  %v85 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v84, <8 x float> %v71, <8 x float> %v60)
  %v86 = insertelement <8 x float> poison, float %v82, i64 0
  %v87 = shufflevector <8 x float> %v86, <8 x float> poison, <8 x i32> zeroinitializer
  %v88 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v87, <8 x float> %v76, <8 x float> %v63)
  %v89 = mul i64 %v8, 32
  %v90 = getelementptr float, ptr %buf2, i64 %v89
  store <8 x float> %v74, ptr %v90, align 4
  %v91 = getelementptr float, ptr %buf2, i64 %v89
  %v92 = getelementptr float, ptr %v91, i64 8
  store <8 x float> %v79, ptr %v92, align 4
  %v93 = getelementptr float, ptr %buf2, i64 %v89
  %v94 = getelementptr float, ptr %v93, i64 16
  store <8 x float> %v85, ptr %v94, align 4
  %v95 = getelementptr float, ptr %buf2, i64 %v89
  %v96 = getelementptr float, ptr %v95, i64 24
  store <8 x float> %v88, ptr %v96, align 4
  %v97 = add nuw nsw i64 %v8, 1
  %v98 = icmp slt i64 %v97, %v6
  br i1 %v98, label %loop4, label %done5, !llvm.loop !0
done5:
  %v99 = sub i64 %v5, %v1
  %v100 = add i64 %v1, %v99
  br label %range1
end3:
  ret i32 0
}
